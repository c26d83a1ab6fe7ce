"""What serving costs: times of exports, the batch timer, what runs at the moment."""
