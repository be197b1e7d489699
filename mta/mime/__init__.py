"""Header fields: found, counted, added and stripped without parsing the body. Sans-IO."""
