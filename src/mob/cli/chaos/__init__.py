"""`mob chaos`: runs an app under faults, while a load checks every answer."""
