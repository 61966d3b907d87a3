package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"

	"rollcall/store"
)

// Exit codes, which the help of the program documents.
const (
	exitFine    = 0
	exitFailure = 1
	exitUsage   = 2
	exitData    = 3
	exitListen  = 4
)

const description = `Who is online, where, and on how many devices.

Start with "rollcall serve" and open the /demo page that it names. In scripts, read the address from the line that serve prints once
it takes requests.

Every flag can be set in the environment: --max-ttl as ROLLCALL_MAX_TTL.

Exit codes:

    0  fine
    1  something failed at run time
    2  a flag, an argument, the environment or the config file is wrong
    3  the data directory is locked by another process, or cannot be used
    4  the address cannot be listened on`

// cli is the command line.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run a node."`
	Track   trackCmd   `cmd:"" help:"Be present in a topic until Ctrl-C."`
	Watch   watchCmd   `cmd:"" help:"Watch topics: who is there, then every change."`
	Topics  topicsCmd  `cmd:"" help:"List the topics that anybody is in."`
	Count   countCmd   `cmd:"" help:"Count the people and devices in a topic."`
	Cluster clusterCmd `cmd:"" help:"List the nodes of a cluster, or remove one."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// console is where a command writes: stdout is for what was asked for, stderr for everything else.
type console struct {
	stdout, stderr io.Writer
	terminal       bool // stdout is read by a person
}

func newConsole(stdout, stderr *os.File) *console {
	return &console{stdout: stdout, stderr: stderr, terminal: isatty.IsTerminal(stdout.Fd())}
}

func (c *console) printf(format string, args ...any) { fmt.Fprintf(c.stdout, format+"\n", args...) }
func (c *console) warnf(format string, args ...any) {
	fmt.Fprintf(c.stderr, "rollcall: "+format+"\n", args...)
}

// usageError is a mistake in how the program was started.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run is the program. It ends when the command does, which is asked to when ctx is done.
func run(ctx context.Context, args []string, con *console) (code int) {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parse(&cli{}, args, con)
	var done helpShown
	if errors.As(err, &done) {
		return exitFine
	}
	if err != nil {
		con.warnf("%v", err)
		con.warnf("see %s --help", helpFor(err))
		return exitUsage
	}
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(con); err != nil {
		con.warnf("%v", err)
		return exitCode(err)
	}
	return exitFine
}

// helpShown is the error of parse when the arguments only asked for help, which was printed.
type helpShown struct{}

func (helpShown) Error() string { return "help was shown" }

// parse fills c from the arguments, the environment and the config file.
func parse(c *cli, args []string, con *console) (command *kong.Context, err error) {
	defer func() { // kong leaves by its exit function once it has shown help
		if r := recover(); r == (helpShown{}) {
			err = helpShown{}
		} else if r != nil {
			panic(r)
		}
	}()
	parser, err := kong.New(c,
		kong.Name("rollcall"),
		kong.Description(description),
		kong.Writers(con.stdout, con.stderr),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.DefaultEnvars("ROLLCALL"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.ValueFormatter(func(value *kong.Value) string { return value.Help }), // the names in the environment follow a rule
	)
	if err != nil {
		return nil, err
	}
	return parser.Parse(args)
}

// helpFor returns the command whose help explains a mistake on its command line.
func helpFor(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Command() != "" {
		return "rollcall " + parse.Context.Path[1].Command.Name
	}
	return "rollcall"
}

func exitCode(err error) int {
	var (
		usage  usageError
		listen *listenError
	)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, store.ErrLocked), errors.Is(err, store.ErrUnreadable), errors.Is(err, store.ErrCorrupt):
		return exitData
	case errors.As(err, &listen):
		return exitListen
	default:
		return exitFailure
	}
}
