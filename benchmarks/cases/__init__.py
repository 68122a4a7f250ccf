"""What ``speed.py`` measures: a file a case, named in its table ``CASES``.

Each has ``build(precision) -> Work`` and imports the library it is about, which nobody else does.
"""
