"""The HTTP side of Lockgate: it decodes a request, calls one function of schema.sql and encodes the answer."""
