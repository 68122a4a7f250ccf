"""One file from the first of several addresses that has it: resumed, checked, all or nothing."""
