"""DKIM signatures (RFC 6376, 8301, 8463): canonical forms, signing, keys. Sans-IO."""
