#!/bin/bash
# Starts mysqld as the official mysql image documents it. On an empty data folder it first makes root, MYSQL_DATABASE and MYSQL_USER
# and runs /docker-entrypoint-initdb.d, all on a temporary server without network; then it becomes the real server.
# Whatever fails on the way stops the container; the next start finds the mark and begins that first start again.
set -euo pipefail

data=/var/lib/mysql
socket=/var/run/mysqld/mysqld.sock
mark=$data/.first-start-under-way
login=
first=
fail() { echo "error: $*" >&2; exit 1; }
note() { echo "entrypoint: $*"; }

from_file() { # NAME_FILE=/run/secrets/x gives NAME
  local name=$1 file=${1}_FILE
  [ -n "${!file:-}" ] || return 0
  [ -z "${!name:-}" ] || fail "$name and $file are both set; set one of them"
  [ -r "${!file}" ] || fail "$file names ${!file}, which cannot be read; mount that file into the container"
  printf -v "$name" %s "$(< "${!file}")"
  export "${name?}"
  unset "$file"
}

check_variables() {
  local passwords
  for name in MYSQL_ROOT_PASSWORD MYSQL_ROOT_HOST MYSQL_DATABASE MYSQL_USER MYSQL_PASSWORD; do from_file "$name"; done
  passwords=${MYSQL_ROOT_PASSWORD:-}${MYSQL_ALLOW_EMPTY_PASSWORD:-}${MYSQL_RANDOM_ROOT_PASSWORD:-}
  [ -n "$passwords" ] || fail "MYSQL_ROOT_PASSWORD is not set and the data folder is empty; set it, or MYSQL_ROOT_PASSWORD_FILE, MYSQL_RANDOM_ROOT_PASSWORD or MYSQL_ALLOW_EMPTY_PASSWORD"
  [ "${MYSQL_USER:-}" != root ] || fail "MYSQL_USER may not be root; root is made from MYSQL_ROOT_PASSWORD"
  [ -z "${MYSQL_USER:-}" ] || [ -n "${MYSQL_PASSWORD:-}" ] || fail "MYSQL_PASSWORD is not set for MYSQL_USER=$MYSQL_USER; set it, or MYSQL_PASSWORD_FILE"
  if [ -n "${MYSQL_RANDOM_ROOT_PASSWORD:-}" ]; then
    MYSQL_ROOT_PASSWORD=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')
    note "GENERATED ROOT PASSWORD: $MYSQL_ROOT_PASSWORD"
  fi
}

quoted() { # a text as SQL writes it
  local text=${1//\\/\\\\}
  echo "'${text//\'/\\\'}'"
}

named() { echo "\`${1//\`/\`\`}\`"; }

sql() { mysql --defaults-extra-file="$login" --protocol=socket --socket="$socket" "$@"; }

write_login() { # an option file, so that no password is on a command line
  local text=${1//\\/\\\\}
  (umask 077 && printf '[client]\nuser=root\npassword="%s"\n' "${text//\"/\\\"}" > "$login")
}

start_first() {
  mysqld "$@" --skip-networking --socket="$socket" &
  first=$!
  local tries=0
  until mysqladmin --defaults-extra-file="$login" --protocol=socket --socket="$socket" ping > /dev/null 2>&1; do
    kill -0 "$first" 2> /dev/null || fail "the temporary server ended while the first start was under way; see the lines above"
    [ $((tries += 1)) -lt 600 ] || fail "the temporary server does not answer after a minute; see the lines above"
    sleep 0.1
  done
}

make_users() {
  local host=${MYSQL_ROOT_HOST:-%} root user database
  root=$(quoted "${MYSQL_ROOT_PASSWORD:-}")
  {
    if [ "$host" != localhost ]; then
      echo "CREATE USER 'root'@$(quoted "$host") IDENTIFIED BY $root;"
      echo "GRANT ALL ON *.* TO 'root'@$(quoted "$host") WITH GRANT OPTION;"
    fi
    if [ -n "${MYSQL_DATABASE:-}" ]; then echo "CREATE DATABASE IF NOT EXISTS $(named "$MYSQL_DATABASE");"; fi
    if [ -n "${MYSQL_USER:-}" ]; then
      user="$(quoted "$MYSQL_USER")@'%'"
      echo "CREATE USER $user IDENTIFIED BY $(quoted "$MYSQL_PASSWORD");"
      database=${MYSQL_DATABASE:-}
      if [ -n "$database" ]; then echo "GRANT ALL ON $(named "${database//_/\\_}").* TO $user;"; fi
    fi
    echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $root;"
  } | sql
  write_login "${MYSQL_ROOT_PASSWORD:-}"
}

run_scripts() {
  local file
  local into=()
  if [ -n "${MYSQL_DATABASE:-}" ]; then into=("--database=$MYSQL_DATABASE"); fi
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sql) note "running $file"; sql "${into[@]}" < "$file" || fail "$file failed; mend it, then start the container again" ;;
      *.sql.gz) note "running $file"; gzip -dc "$file" | sql "${into[@]}" || fail "$file failed; mend it, then start the container again" ;;
      *.sh)
        note "running $file"
        if [ -x "$file" ]; then "$file" || fail "$file failed; mend it, then start the container again"
        else . "$file"; fi
        ;;
      */\*) ;; # the folder is empty
      *) note "ignoring $file" ;;
    esac
  done
}

end_first() {
  mysqladmin --defaults-extra-file="$login" --protocol=socket --socket="$socket" shutdown || fail "the temporary server did not shut down"
  wait "$first" || fail "the temporary server ended with an error; see the lines above"
  first=
}

clean_up() {
  if [ -n "$login" ]; then rm -f "$login"; fi
  if [ -n "$first" ]; then kill "$first" 2> /dev/null && wait "$first"; fi
  true
}

first_start() {
  note "filling the empty data folder $data"
  touch "$mark"
  mysqld "$@" --initialize-insecure || fail "mysqld could not fill $data; see the lines above"
  login=$(mktemp)
  write_login ''
  start_first "$@"
  make_users
  run_scripts
  end_first
  rm -f "$login" "$mark"
  login=
  note "the first start is done"
}

contents() { find "$data" -mindepth 1 -maxdepth 1 ! -name lost+found "$@" -print -quit; }

# An option first, or nothing: arguments for mysqld. Anything else is a program to run instead.
[ $# -gt 0 ] && [ "${1#-}" = "$1" ] || set -- mysqld "$@"
[ "$1" = mysqld ] || exec "$@"
shift
case " $* " in *" --help "* | *" --verbose "* | *" --version "* | *" -V "*) exec mysqld "$@" ;; esac

if [ "$(id -u)" = 0 ]; then
  find "$data" /run/mysqld ! -user mysql -exec chown mysql:mysql {} +
  set -- --user=mysql "$@"
fi
[ -w "$data" ] || fail "$data cannot be written by user $(id -u); mount a volume that this user may write"

if [ -e "$mark" ]; then
  note "the last first start did not come to its end; beginning again"
  find "$data" -mindepth 1 ! -path "$data/lost+found" -delete
fi
trap clean_up EXIT
trap 'exit 143' TERM INT
if [ -z "$(contents)" ]; then
  check_variables
  first_start "$@"
elif [ ! -e "$data/mysql.ibd" ]; then
  fail "$data is not empty but holds no MySQL data; empty it, or mount another folder there"
fi
trap - EXIT TERM INT
exec mysqld "$@"
