"""Start pipelines and end them with all they started; take the signals of this process."""
