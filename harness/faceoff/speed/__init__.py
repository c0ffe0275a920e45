"""How long calls take: rounds and their schedule, when to stop, statistics, verdicts, costs and the ranking."""
