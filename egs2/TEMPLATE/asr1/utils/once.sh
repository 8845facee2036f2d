#!/usr/bin/env bash
# Run a job of an array unless it has already ended well: utils/once.sh FOLDER LOG COMMAND...
# FOLDER is the job's own; FOLDER/.done says that the job has ended well. Output goes to LOG, which
# is left alone when there is nothing to do.
set -euo pipefail
folder=$1
log=$2
shift 2

if [ -f "${folder}/.done" ]; then
    echo "already done: ${folder}"
    exit 0
fi
rm -rf "${folder}"
mkdir -p "${folder}"
tied=()
if command -v setpriv >/dev/null; then
    tied=(setpriv --pdeathsig KILL --)
fi
status=0
"${tied[@]}" "$@" >"${log}" 2>&1 || status=$?
if [ "${status}" -ne 0 ]; then
    echo "failed, the whole log is ${log}; it ends:"
    tail -n 20 "${log}"
    exit "${status}"
fi
touch "${folder}/.done"
