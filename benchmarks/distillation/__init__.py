"""A student with and without a teacher, on people that neither was trained on."""
