"""What happens: one folder per stage, in the order of the data's journey. No room knows another; all know contracts."""
