"""What is measured, a file each; ``case_table.py`` names the functions.

Most give a ``Work``; training loops run until the gate that they are given has no more turns. Only
the file about a library imports it.
"""
