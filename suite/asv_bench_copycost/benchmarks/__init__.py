"""The types. asv_runner imports every module here, in every process, and registers its `export_as_benchmark`."""
