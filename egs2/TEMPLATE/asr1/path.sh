# shellcheck shell=bash
# The environment of a recipe; sourced in the recipe's folder.
MAIN_ROOT=$PWD/../../..

export PATH=$PWD/utils:$PATH
# One sorting order everywhere, and UTF-8 in Python all the same.
export LC_ALL=C
export PYTHONIOENCODING=UTF-8
export PYTHONUTF8=1

# Without an ESPnet in the calling environment, use the one `make` installs beside the recipes.
if [ -x "${MAIN_ROOT}/.venv/bin/python3" ] \
    && ! python3 -c 'import importlib.util as u; raise SystemExit(u.find_spec("espnet2") is None)' 2>/dev/null; then
    export PATH=${MAIN_ROOT}/.venv/bin:$PATH
fi

# Last, so that a recipe can overrule the above.
if [ -f local/path.sh ]; then
    # shellcheck source=/dev/null  # the recipe's own
    . local/path.sh
fi
