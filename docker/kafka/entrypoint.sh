#!/bin/bash
# Writes server.properties from KAFKA_* variables, as cp-kafka documents it, formats KRaft storage once, becomes the broker.
#   KAFKA_FOO_BAR=1 -> foo.bar=1     KAFKA_FOO__BAR -> foo-bar     KAFKA_FOO___BAR -> foo_bar
set -euo pipefail

config=/etc/kafka/server.properties
fail() { echo "error: $*" >&2; exit 1; }
need() { for name in "$@"; do [ -n "${!name:-}" ] || fail "$name is not set; give it to the container (docker run -e $name=…)"; done; }

property() { # KAFKA_LOG_DIRS -> log.dirs
  local name=${1#KAFKA_}
  name=${name,,}
  name=${name//___/%}
  name=${name//__/-}
  name=${name//_/.}
  echo "${name//%/_}"
}

write_properties() {
  local name
  for name in "${!KAFKA_@}"; do
    case $name in
      KAFKA_HEAP_OPTS | KAFKA_OPTS | KAFKA_JVM_PERFORMANCE_OPTS | KAFKA_GC_LOG_OPTS | KAFKA_JMX_* | KAFKA_LOG4J* | KAFKA_TOOLS_LOG4J* | KAFKA_HOME | KAFKA_VERSION) ;;
      *) echo "$(property "$name")=${!name//$'\n'/ }" ;;
    esac
  done > "$config"
}

client_port() { # of the first listener that is not the controllers'
  local listener
  for listener in ${KAFKA_LISTENERS//,/ }; do
    [[ ,${KAFKA_CONTROLLER_LISTENER_NAMES:-}, == *",${listener%%:*},"* ]] || { echo "${listener##*:}"; return; }
  done
  echo "${KAFKA_LISTENERS##*:}"
}

run_java() { # main class, arguments
  local heap=${KAFKA_HEAP_OPTS:--Xms128m -Xmx512m} level=${KAFKA_LOG4J_ROOT_LOGLEVEL:-INFO}
  # shellcheck disable=SC2086 - options are words
  exec java $heap ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC} ${KAFKA_OPTS:-} \
    -Dorg.slf4j.simpleLogger.defaultLogLevel="${level,,}" -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.dateTimeFormat='yyyy-MM-dd HH:mm:ss,SSS' -cp '/opt/kafka/libs/*' "$@"
}

check_folders() {
  local folder
  for folder in ${KAFKA_LOG_DIRS//,/ }; do
    mkdir -p "$folder" 2> /dev/null && [ -w "$folder" ] ||
      fail "$folder cannot be written by user $(id -u); mount a volume that this user may write (chown -R $(id -u) on the host's folder)"
  done
}

format_once() {
  [ -e "${KAFKA_LOG_DIRS%%,*}/meta.properties" ] && return
  local quorum=()
  if [ -z "${KAFKA_CONTROLLER_QUORUM_VOTERS:-}" ]; then
    quorum=(--no-initial-controllers)
    [[ $KAFKA_PROCESS_ROLES == *controller* && ${KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS:-} != *,* ]] && quorum=(--standalone)
  fi
  echo "formatting ${KAFKA_LOG_DIRS} for cluster $CLUSTER_ID"
  (KAFKA_LOG4J_ROOT_LOGLEVEL=WARN KAFKA_OPTS='' run_java kafka.tools.StorageTool format --ignore-formatted -t "$CLUSTER_ID" -c "$config" "${quorum[@]}") ||
    fail "KRaft storage in ${KAFKA_LOG_DIRS} could not be formatted; see the lines above"
}

[ "${1:-kafka}" = kafka ] || exec "$@"

if [ -n "${KAFKA_PROCESS_ROLES:-}" ]; then
  need CLUSTER_ID KAFKA_NODE_ID KAFKA_CONTROLLER_LISTENER_NAMES
  [ -n "${KAFKA_CONTROLLER_QUORUM_VOTERS:-}${KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS:-}" ] ||
    fail "KAFKA_CONTROLLER_QUORUM_VOTERS is not set; give it to the container, for example 1@localhost:9093"
  if [[ $KAFKA_PROCESS_ROLES == *controller* ]]; then need KAFKA_LISTENERS; fi
elif compgen -G '/opt/kafka/libs/zookeeper-[0-9]*.jar' > /dev/null; then
  [ -n "${KAFKA_ZOOKEEPER_CONNECT:-}" ] ||
    fail "KAFKA_ZOOKEEPER_CONNECT is not set; give it to the container (host:2181), or KAFKA_PROCESS_ROLES for a broker without ZooKeeper"
else
  fail "KAFKA_PROCESS_ROLES is not set; this Kafka knows no ZooKeeper, give it KAFKA_PROCESS_ROLES=broker,controller"
fi
if [[ ${KAFKA_PROCESS_ROLES:-broker} == *broker* ]]; then need KAFKA_ADVERTISED_LISTENERS; fi

export KAFKA_LOG_DIRS=${KAFKA_LOG_DIRS:-/var/lib/kafka/data}
if [ -z "${KAFKA_LISTENERS:-}" ]; then
  KAFKA_LISTENERS=$(sed -E 's#//[^,]*:([0-9]+)#//0.0.0.0:\1#g' <<< "$KAFKA_ADVERTISED_LISTENERS")
  export KAFKA_LISTENERS
fi
check_folders
write_properties
client_port > /etc/kafka/health-port
if [ -n "${KAFKA_PROCESS_ROLES:-}" ]; then format_once; fi
run_java kafka.Kafka "$config"
