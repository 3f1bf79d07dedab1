"""What counts, what is promised, what differs: values in, values out, no network and no clock."""
