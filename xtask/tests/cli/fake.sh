# Plays a tool for the tests: symbolic links with the tool's name lead here. What it was given goes to files in $FAKES;
# what it answers is the script of the first rule whose pattern fits the command line. Programs are started only where
# no builtin does: thousands of fakes run.
answer() {
    all=$*
    shift
    . "$FAKES/rules"
    echo "no rule for: $all" >&2
    exit 1
}
tool=${0##*/}
printf '%s\n' "$tool $*" >>"$FAKES/calls"
for list in /proc/$PPID/task/*/children; do read -r ids <"$list"; echo "$ids"; done >>"$FAKES/children" 2>/dev/null
export -p >>"$FAKES/environment"
# A container that gives back what it gets, for as long as it gets something.
case " $* " in *" --entrypoint=cat "*) exec cat ;; esac
# The client of a restore waits for an answer before it ends the input: the rule reads it.
case " $* " in *"; then echo 'COMMIT;'; else "*) answer "$tool" "$@" ;; esac
[ /dev/stdin -ef /dev/null ] || cat >>"$FAKES/stdin"
case "$tool $*" in
"docker inspect "*)
    # A name with a tag is an image, any other one a container.
    shift 3
    code=0
    for object; do
        case $object in *:*) noun=image ;; *) noun=container ;; esac
        { words=$( (answer docker "$noun" inspect --format '{{json .}}' "$object") 2>&1 >&3) || code=1; } 3>&1
        case $words in
        '') ;;
        *[Nn]'o such '*) echo "Error: No such object: $object" >&2 ;;
        *) echo "$words" >&2 ;;
        esac
    done
    exit $code
    ;;
"docker exec -i todo sh -c crictl --timeout=10s images "*)
    # Two commands on the node in one.
    shift 7
    (answer docker exec -i todo crictl --timeout=10s images -o json) || exit
    [ $# -eq 0 ] || (answer docker exec -i todo ctr -n k8s.io images check -q "$@")
    code=$?
    echo end
    exit $code
    ;;
esac
answer "$tool" "$@"
