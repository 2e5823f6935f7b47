// `evc completion`: what a shell offers when somebody presses Tab, made of the commands themselves.
import { Argument, Command } from 'commander';

interface Offer {
  /** `evc account set`. */
  path: string;
  words: string[];
}

export function completionCommand(program: Command): Command {
  return new Command('completion')
    .description('Prints what completes this command in a shell.')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh']))
    .addHelpText(
      'after',
      `
In ~/.bashrc:  source <(evc completion bash)
In ~/.zshrc:   source <(evc completion zsh)`,
    )
    .action((shell: 'bash' | 'zsh') => {
      process.stdout.write(completionScript(program, shell));
    });
}

/** A script to be sourced. */
export function completionScript(program: Command, shell: 'bash' | 'zsh'): string {
  const name = program.name();
  const lines = offersOf(program, name).map(
    ({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;`,
  );
  const compatible = shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '';
  return `${compatible}_${name}() {
  local current=\${COMP_WORDS[COMP_CWORD]} path=${name} words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " $(_${name}_words "$path") " in
      *" $word "*) case $word in -*) ;; *) path="$path $word" ;; esac ;;
    esac
  done
  words=$(_${name}_words "$path")
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  # Where a file may be meant, the shell offers its own.
  [ \${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$current"))
}
_${name}_words() {
  local words=''
  case $1 in
${lines.join('\n')}
  esac
  echo "$words"
}
complete -o filenames -F _${name} ${name}
`;
}

function offersOf(command: Command, path: string): Offer[] {
  const commands = command.commands.filter((one) => !('_hidden' in one && one._hidden));
  const options = command.options.filter(({ hidden }) => !hidden).flatMap(({ long }) => (long ? [long] : []));
  const words = [...commands.map((one) => one.name()), ...options, '--help'];
  return [{ path, words }, ...commands.flatMap((one) => offersOf(one, `${path} ${one.name()}`))];
}
