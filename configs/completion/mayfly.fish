# fish completion for mayfly. It asks mayfly itself, which knows its options.
function __mayfly_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l answer ($words[1] completion -- $words[2..-1] $current 2> /dev/null)
    if test "$answer[1]" = :files
        set -l option (string match -r -- '^--[^=]+=' $current)
        for path in (__fish_complete_path (string replace -r -- '^--[^=]+=' '' $current))
            echo -- "$option$path"
        end
    else
        string join -- \n $answer
    end
end
complete -c mayfly -f -a '(__mayfly_complete)'
