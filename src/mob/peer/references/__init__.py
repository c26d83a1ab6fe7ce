"""What is sent by reference: functions, large buffers, open descriptors."""
