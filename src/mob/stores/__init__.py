"""A store in the box: what all processes of an app share, in a role of one worker."""
