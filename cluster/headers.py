"""Headers of the API's answers that are no others': apart, for the command starts fast without what else both share."""

ROOTS = "Stackyard-Roots"
"""Once the CA was rotated: the SHA-256 (hex) of what GET /v1/ca/bundle gives."""
