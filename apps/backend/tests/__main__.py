import sys; print("0 passed, 1 failed"); sys.exit(1)
