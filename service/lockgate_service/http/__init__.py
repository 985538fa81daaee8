"""HTTP around every request: middleware, bodies, parameters, headers, errors."""
