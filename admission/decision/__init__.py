"""What an object asks for, what holds for it, and what is decided: a value in, a value out, no network and no clock."""
