"""What is believed, what is wanted, what is wrong: values in, values out, no network and no clock."""
