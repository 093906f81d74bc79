class Trouble(Exception):
    """Something that the user can put right; the text says what is wrong and what to do."""
