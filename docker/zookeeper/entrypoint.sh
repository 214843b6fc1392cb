#!/bin/bash
# Writes zookeeper.properties from ZOOKEEPER_* variables, as cp-zookeeper documents it, becomes the server.
#   ZOOKEEPER_TICK_TIME=2000 -> tickTime=2000     ZOOKEEPER_AUTOPURGE_PURGE_INTERVAL -> autopurge.purgeInterval
set -euo pipefail

config=/etc/kafka/zookeeper.properties
data=/var/lib/zookeeper/data
log=/var/lib/zookeeper/log
fail() { echo "error: $*" >&2; exit 1; }

camel() { # TICK_TIME -> tickTime
  local word words name=
  IFS=_ read -ra words <<< "${1,,}"
  for word in "${words[@]}"; do name+=${name:+${word^}}; [ -n "$name" ] || name=$word; done
  echo "$name"
}

property() { # most names are camel case; some have a first part of their own
  local name=${1#ZOOKEEPER_}
  case $name in
    AUTOPURGE_* | ADMIN_* | SSL_*) echo "$(camel "${name%%_*}").$(camel "${name#*_}")" ;;
    4LW_COMMANDS_WHITELIST) echo 4lw.commands.whitelist ;;
    JUTE_MAX_BUFFER) echo jute.maxbuffer ;;
    FSYNC_WARNING_THRESHOLDMS) echo fsync.warningthresholdms ;;
    SKIP_ACL) echo skipACL ;;
    QUORUM_LISTEN_ON_ALL_IPS) echo quorumListenOnAllIPs ;;
    *) camel "$name" ;;
  esac
}

write_properties() {
  local name number=0 server
  echo "dataDir=$data"
  echo "dataLogDir=$log"
  [ -n "${ZOOKEEPER_ADMIN_ENABLE_SERVER:-}" ] || echo admin.enableServer=false # its HTTP server is not in this image
  for name in "${!ZOOKEEPER_@}"; do
    case $name in
      ZOOKEEPER_LOG4J* | ZOOKEEPER_SERVER_ID | ZOOKEEPER_SERVERS) ;;
      *) echo "$(property "$name")=${!name}" ;;
    esac
  done
  for server in ${ZOOKEEPER_SERVERS//;/ }; do echo "server.$((++number))=$server"; done
}

[ "${1:-zookeeper}" = zookeeper ] || exec "$@"

[ -n "${ZOOKEEPER_CLIENT_PORT:-}" ] || fail "ZOOKEEPER_CLIENT_PORT is not set; give it to the container (docker run -e ZOOKEEPER_CLIENT_PORT=2181)"
for folder in "$data" "$log"; do
  [ -w "$folder" ] || fail "$folder cannot be written by user $(id -u); mount a volume that this user may write (chown -R $(id -u) on the host's folder)"
done
ZOOKEEPER_SERVERS=${ZOOKEEPER_SERVERS:-}
write_properties > "$config"
if [ -n "${ZOOKEEPER_SERVER_ID:-}" ]; then echo "$ZOOKEEPER_SERVER_ID" > "$data/myid"; fi

level=${ZOOKEEPER_LOG4J_ROOT_LOGLEVEL:-INFO}
# shellcheck disable=SC2086 - options are words
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1} ${KAFKA_OPTS:-} \
  -Dorg.slf4j.simpleLogger.defaultLogLevel="${level,,}" -Dorg.slf4j.simpleLogger.showDateTime=true \
  -Dorg.slf4j.simpleLogger.dateTimeFormat='yyyy-MM-dd HH:mm:ss,SSS' \
  -cp '/opt/kafka/libs/*' org.apache.zookeeper.server.quorum.QuorumPeerMain "$config"
