# background_worker.py
import os
print(f"Background worker {os.getpid()} running.")

def foo():
    print(f"Bar! My pid is {os.getpid()}")
