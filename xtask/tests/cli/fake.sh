# Plays a tool for the tests: symbolic links with the tool's name lead here. What it was given goes to files in $FAKES;
# what it answers is the script of the first rule whose pattern fits the command line.
all="${0##*/} $*"
printf '%s\n' "$all" >>"$FAKES/calls"
export -p >>"$FAKES/environment"
cat >>"$FAKES/stdin"
while IFS='|' read -r reply pattern; do
    # shellcheck disable=SC2254 # the pattern is one
    case $all in
    $pattern)
        . "$FAKES/$reply"
        exit 0
        ;;
    esac
done <"$FAKES/rules"
echo "no rule for: $all" >&2
exit 1
