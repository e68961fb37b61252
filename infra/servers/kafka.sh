# Apache Kafka as a plain process: one node that is broker and controller, on Java 17 or newer. Sourced by up.sh.
#
# KAFKA_HEAP is its memory (512m), KAFKA_PORT the port that it takes if it is free. KAFKA_PROXY_PORT adds a listener whose
# clients are told that port, for tests with a proxy in between.

# Among the broker's own dependencies there is nothing that writes its log.
kafka_jars=("org.apache.kafka:kafka_2.13:$KAFKA_VERSION" "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5")

# kafka_lib: the folder of its jars, which Maven fetches on the first call.
kafka_lib() {
  once "$cache/kafka-$KAFKA_VERSION/lib" "fetching Kafka $KAFKA_VERSION, 43 MB" fetch_kafka
}

fetch_kafka() {
  local jar group artifact version
  need mvn "install Maven, or start a Docker engine"
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>tidemark</groupId><artifactId>kafka</artifactId>'
    echo '<version>1</version><packaging>pom</packaging><dependencies>'
    for jar in "${kafka_jars[@]}"; do
      IFS=: read -r group artifact version <<<"$jar"
      echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >pom.xml
  mvn -q -B -f pom.xml org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$PWD/lib" -DincludeScope=runtime
}

# A Metadata request that names a broker shows that it answers.
kafka_answers() {
  python3 - "$1" <<'PY'
import socket, struct, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2) as s:
    s.settimeout(5)
    request = struct.pack(">hhi", 3, 1, 1) + struct.pack(">h", 8) + b"tidemark" + struct.pack(">i", 0)
    s.sendall(struct.pack(">i", len(request)) + request)
    answer = s.makefile("rb")
    size, correlation, brokers = struct.unpack(">iii", answer.read(12))
sys.exit(correlation != 1 or brokers < 1)
PY
}

# A certificate of its own for the listener with TLS and SASL.
kafka_certificate() {
  [ -s "$data/kafka/keystore.pem" ] && return
  need openssl "install OpenSSL's command"
  mkdir -p "$data/kafka"
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$data/kafka/key.pem" -out "$data/kafka/ca.pem" 2>/dev/null
  cat "$data/kafka/key.pem" "$data/kafka/ca.pem" >"$data/kafka/keystore.pem"
}

kafka_config() {
  local listener="" advertised="" protocol=""
  if [ -n "${KAFKA_PROXY_PORT:-}" ]; then
    listener=",PROXIED://127.0.0.1:$4" advertised=",PROXIED://127.0.0.1:$KAFKA_PROXY_PORT" protocol=",PROXIED:PLAINTEXT"
  fi
  cat <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$2
listeners=PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2,SECURE://127.0.0.1:$3$listener
advertised.listeners=PLAINTEXT://127.0.0.1:$1,SECURE://127.0.0.1:$3$advertised
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL$protocol
ssl.keystore.type=PEM
ssl.keystore.location=$data/kafka/keystore.pem
sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$access_key="$secret_key";
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$data/kafka/log
# Kafka's own default: that a client asks for a topic must not make one
auto.create.topics.enable=true
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# tests look on while retention works, and while a broker comes back after SIGKILL
log.retention.check.interval.ms=1000
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=4000
CONF
}

write_env_kafka() {
  cat >>"$data/env" <<ENV
export TIDEMARK_TEST_KAFKA=127.0.0.1:$1 TIDEMARK_TEST_KAFKA_DATA=$data
export TIDEMARK_TEST_KAFKA_SECURE=127.0.0.1:$2 TIDEMARK_TEST_KAFKA_CA=$data/kafka/ca.pem
export TIDEMARK_TEST_KAFKA_USER=$access_key TIDEMARK_TEST_KAFKA_PASSWORD=$secret_key
ENV
  [ -z "${KAFKA_PROXY_PORT:-}" ] || echo "export TIDEMARK_TEST_KAFKA_PROXIED=127.0.0.1:$4" >>"$data/env"
}

kafka_up() {
  alive kafka && { write_env_kafka $(cat "$data/kafka.port"); return; }
  need java "install Java 17 or newer, or start a Docker engine"
  local java=java lib port secure controller proxied logging
  [ -z "${JAVA_HOME:-}" ] || java=$JAVA_HOME/bin/java
  lib=$(kafka_lib)
  mkdir -p "$data/kafka"
  # One that is started again on what it left keeps its address: clients look for it there.
  [ -s "$data/kafka.port" ] ||
    echo "$(port_for kafka "${KAFKA_PORT:-0}") $(free_port) $(free_port) $(free_port)" >"$data/kafka.port"
  read -r port secure controller proxied <"$data/kafka.port"
  kafka_certificate
  kafka_config "$port" "$controller" "$secure" "$proxied" >"$data/kafka/server.properties"
  logging=$data/kafka/log4j2.properties
  printf '%s\n' 'appender.out.type=Console' 'appender.out.name=out' 'appender.out.layout.type=PatternLayout' \
    'appender.out.layout.pattern=[%d] %p %m (%c)%n' 'rootLogger.level=WARN' 'rootLogger.appenderRef.out.ref=out' >"$logging"
  if [ ! -e "$data/kafka/log/meta.properties" ]; then
    "$java" -cp "$lib/*" -Dlog4j2.configurationFile="$logging" kafka.tools.StorageTool format \
      -t "$(python3 -c 'import base64, uuid; print(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))')" \
      -c "$data/kafka/server.properties" >"$data/kafka.log" 2>&1 || { cat "$data/kafka.log" >&2; die "Kafka can't format its folder"; }
  fi
  setsid "$java" -Xms256m -Xmx"${KAFKA_HEAP:-512m}" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true -cp "$lib/*" \
    -Dlog4j2.configurationFile="$logging" kafka.Kafka "$data/kafka/server.properties" >>"$data/kafka.log" 2>&1 </dev/null &
  echo $! >"$data/kafka.pid"
  wait_for kafka 90 kafka_answers "$port"
  write_env_kafka "$port" "$secure" "$controller" "$proxied"
}
