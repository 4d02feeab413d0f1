"""From labelled pictures to a detector folder."""
