"""Things that are sent by reference: functions, objects, large buffers, file descriptors."""
