# One OpenSearch node as a plain process on loopback, without security: for tests. Sourced by up.sh.
#
# The server comes from Maven Central, once, and needs Java 21 or newer. OPENSEARCH_HEAP is its memory (1g), OPENSEARCH_PORT
# the port that it takes if it is free. Its data stay in DIR/opensearch, so that a test can stop it and start it again.

write_env_opensearch() { echo "export TIDEMARK_TEST_OPENSEARCH_URL=http://127.0.0.1:$1" >>"$data/env"; }

# The newest Java of at least 21, and its number.
find_java() {
  local java number
  for java in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    [ -x "$java" ] || continue
    number=$("$java" -XshowSettings:properties -version 2>&1 | awk '/java.specification.version =/ { print int($3) }')
    [ "${number:-0}" -ge 21 ] && echo "$number $java"
  done | sort -rn | head -n 1
}

# The folder of the unpacked server, fetched on the first call.
fetch_opensearch() {
  once "$cache/opensearch-$OPENSEARCH_VERSION" "fetching OpenSearch $OPENSEARCH_VERSION, 160 MB" unpack_opensearch
}

unpack_opensearch() {
  need mvn "install Maven, or start a Docker engine"
  mvn -q -B -f "$here/opensearch-pom.xml" "-Drelease=$OPENSEARCH_VERSION" "-Dinto=$PWD" process-resources
}

opensearch_answers() {
  python3 - "$1" <<'PY'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(f"http://127.0.0.1:{sys.argv[1]}/_cluster/health?wait_for_status=yellow&timeout=4s", timeout=8).read()
PY
}

opensearch_up() {
  alive opensearch && { write_env_opensearch "$(cat "$data/opensearch.port")"; return; }
  local dir=$data/opensearch home java number port heap=${OPENSEARCH_HEAP:-1g} options
  read -r number java < <(find_java) || die "Java 21 or newer is missing: install a JDK, or start a Docker engine"
  home=$(fetch_opensearch) || exit 1
  port=$(port_for opensearch "${OPENSEARCH_PORT:-0}")
  mkdir -p "$dir/config" "$dir/data" "$dir/repo" "$dir/tmp"
  cat >"$dir/config/opensearch.yml" <<YML
cluster.name: tidemark-test
node.name: one
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: 0
path.data: $dir/data
path.logs: $dir
# Where snapshots of tests may be.
path.repo: $dir/repo
# Disks of test machines are full.
cluster.routing.allocation.disk.threshold_enabled: ${OPENSEARCH_DISK_THRESHOLD:-false}
YML
  cat >"$dir/config/log4j2.properties" <<'LOG'
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
LOG
  options=(-Xms"$heap" -Xmx"$heap" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true -Dfile.encoding=UTF-8
    -Djna.nosys=true -Dio.netty.noUnsafe=true -Dio.netty.recycler.maxCapacityPerThread=0 -Dio.netty.allocator.numDirectArenas=0
    -Dlog4j.shutdownHookEnabled=false -Dlog4j2.disable.jmx=true -Djava.locale.providers=SPI,CLDR
    --add-modules=jdk.incubator.vector --add-opens=java.base/java.nio=ALL-UNNAMED "-Djava.io.tmpdir=$dir/tmp"
    # A second start finds its classes read already, which halves it. Without the agent that confines plug-ins: there are none.
    -XX:+AutoCreateSharedArchive "-XX:SharedArchiveFile=$home/classes-$number.jsa" -Xlog:cds=off -Xlog:aot=off)
  # As root it would refuse to run; it learns who it is by native code.
  [ "$(id -u)" != 0 ] || options+=(-Djna.noclasspath=true)
  cd "$dir"
  env -u JAVA_TOOL_OPTIONS setsid "$java" "${options[@]}" "-Dopensearch.path.home=$home" "-Dopensearch.path.conf=$dir/config" \
    -Dopensearch.distribution.type=zip -Dopensearch.bundled_jdk=false \
    -cp "$home/lib/*:$(printf %s: "$home"/agent/opensearch-agent-bootstrap-*.jar)" \
    org.opensearch.bootstrap.OpenSearch >>"$data/opensearch.log" 2>&1 </dev/null &
  echo $! >"$data/opensearch.pid"; echo "$port" >"$data/opensearch.port"
  cd "$here"
  wait_for opensearch 180 opensearch_answers "$port"
  write_env_opensearch "$port"
}
