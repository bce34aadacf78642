"""`make bench`: every measurement that needs no downloaded data, one after the other."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

for script in ("steps.py", "ingest.py"):
    print(f"--- {script}", flush=True)
    subprocess.run([sys.executable, "-P", str(HERE / script)], check=True)
