"""The HTTP side of Lockgate: decodes a request, calls one function of schema.sql, encodes the answer."""
