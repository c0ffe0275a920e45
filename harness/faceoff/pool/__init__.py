"""Live processes of contenders: what they start in, what they need, how much memory they may take."""
