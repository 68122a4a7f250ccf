"""What is taken out of a run: its policy as an object, a file or a film, its rows as a dataset."""
