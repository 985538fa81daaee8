"""Guards, each weakened on purpose: a suite that does not notice has a gap."""

from collections.abc import Sequence

from tests.mutants import runner, schema, service
from tests.mutants.mutant import Mutant

MUTANTS: Sequence[Mutant] = [*schema.MUTANTS, *runner.MUTANTS, *service.MUTANTS]
