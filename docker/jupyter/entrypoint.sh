#!/bin/bash
# Gives the user a name (Spark asks for one), refuses an open JupyterLab, becomes the program.
set -euo pipefail

fail() { echo "error: $*" >&2; exit 1; }

if ! id -un > /dev/null 2>&1; then
  echo "student:x:$(id -u):$(id -g)::$HOME:/bin/bash" >> /etc/passwd
fi
case " $* " in
  *" jupyterlab "*)
    [ "$(id -u)" != 0 ] || fail "JupyterLab does not run as root here; start the container with --user $(stat -c %u:%g /course), the owner of /course"
    [ -n "${JUPYTER_TOKEN:-}${JUPYTER_TOKEN_FILE:-}" ] ||
      fail "JUPYTER_TOKEN is not set, and JupyterLab without a token is open to everybody; set it (or JUPYTER_TOKEN_FILE) in the container's environment"
    ;;
esac
[ -w "$ACCIDENT_LABS_STATE" ] || fail "$ACCIDENT_LABS_STATE cannot be written by user $(id -u); mount a volume there that this user may write"
exec "$@"
