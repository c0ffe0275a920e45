"""Does a contender compute what the reference computes: quantities, noise units, the verdict, the first difference."""
