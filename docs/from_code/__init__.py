"""What the pages take from the code: `make pages` writes it, and a test says when it is out of date."""
