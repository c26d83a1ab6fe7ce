"""What calls, callbacks, clients and deaths have used is given back."""
