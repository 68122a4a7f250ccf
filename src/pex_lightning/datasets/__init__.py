"""From files and arrays to transitions."""
