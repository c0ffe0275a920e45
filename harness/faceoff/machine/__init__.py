"""The machine: processor, cards, and what of them may be used."""
