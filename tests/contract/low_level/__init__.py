"""Programs and texts that the tests of hand-written kernels run elsewhere than in the test process."""
