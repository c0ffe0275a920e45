"""What is computed: models and sizes by name, tasks with weights and batches, data sets, counted work."""
