#!/bin/sh
# Prints the Python that makes the virtual environment: $PYTHON if it is set, else the first fit one.
# 3.12 and 3.11 come before newer ones because the wheel of the oldest supported Redis is for these.
set -eu

for python in ${PYTHON:-python3.12 python3.11 python3.13 python3.14 python3}; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
    then
        echo "$python"
        exit
    fi
done
echo "no Python 3.11 or newer that can make a virtual environment (tried: ${PYTHON:-python3 and" \
    "python3.11 to python3.14}). Install one, with its venv module (Debian and Ubuntu: the package" \
    "python3-venv), or name it: make PYTHON=/path/to/python" >&2
exit 1
