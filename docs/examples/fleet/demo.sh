# Make a project with four commits, measure it with a fleet, and show what is left: demo.sh FOLDER CLUSTER [OPTIONS].
# The workers of the example share a machine, so that none would pass the test of a host.
set -e
folder=$1 cluster=$2
shift 2
python -m peers.toy_project "$folder" 4
cd "$folder"
copycost fleet plan ALL || true
copycost fleet run ALL --no-canary --cluster "$cluster" "$@"
copycost fleet status ALL
