/* completion.c - completion scripts for bash, zsh and fish, from the option
 * tables. Static scripts: nothing is asked of a coordinator while somebody
 * types. */
#include <stdio.h>
#include <string.h>

#include "cli/help.h"

/* Words of "a|b|c" separated by sep; "(verbs)" is the verbs' names. */
static void put_words(struct hth_buf *out, const char *choices, char sep)
{
    if (strcmp(choices, "(verbs)") == 0) {
        for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
            hth_put_printf(out, "%s%c", v->name, v[1].name != NULL ? sep : ' ');
        return;
    }
    for (; *choices != '\0'; choices++)
        hth_put_u8(out, (uint8_t)(*choices == '|' ? sep : *choices));
}

static bool takes_path(const struct hth_opt *o)
{
    return o->type == HTH_OPT_FILE || o->type == HTH_OPT_DIR;
}

static bool operand_is_file(const struct hth_verb *v)
{
    return v->operand != NULL && strcmp(v->operand, "FILE") == 0;
}

/* ---- bash ---------------------------------------------------------------- */

/* One case per option that takes a value: what may follow it. Letters are
 * listed beside the long name. */
static void bash_values(struct hth_buf *out, const struct hth_verb *v)
{
    for (const struct hth_opt *o = v->opts; o->name != NULL; o++) {
        if (o->type == HTH_OPT_FLAG)
            continue;
        hth_put_printf(out, "        %s:--%s", v->name, o->name);
        if (o->letter != 0)
            hth_put_printf(out, "|%s:-%c", v->name, o->letter);
        hth_put_printf(out, ") ");
        if (o->choices != NULL) {
            hth_put_printf(out, "COMPREPLY=($(compgen -W '");
            put_words(out, o->choices, ' ');
            hth_put_printf(out, "' -- \"$cur\"))");
        } else if (takes_path(o)) {
            hth_put_printf(out,
                           "compopt -o filenames; COMPREPLY=($(compgen "
                           "-%c -- \"$cur\"))",
                           o->type == HTH_OPT_DIR ? 'd' : 'f');
        } else {
            hth_put_u8(out, ':');
        }
        hth_put_printf(out, "; return ;;\n");
    }
}

static void bash_words(struct hth_buf *out, const struct hth_verb *v)
{
    hth_put_printf(out, "        %s) ", v->name);
    if (operand_is_file(v))
        hth_put_printf(out,
                       "[[ $cur != -* ]] && compopt -o filenames && "
                       "COMPREPLY=($(compgen -f -- \"$cur\")) && return; ");
    hth_put_printf(out, "words='");
    for (const struct hth_opt *o = v->opts; o->name != NULL; o++)
        hth_put_printf(out, "--%s ", o->name);
    hth_put_printf(out, "--help");
    if (v->operand_choices != NULL) {
        hth_put_u8(out, ' ');
        put_words(out, v->operand_choices, ' ');
    }
    hth_put_printf(out, "' ;;\n");
}

static void put_bash(struct hth_buf *out)
{
    hth_put_printf(out, "# bash completion for hearth\n"
                        "_hearth() {\n"
                        "    local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
                        "    local prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                        "    local verb=${COMP_WORDS[1]}\n"
                        "    COMPREPLY=()\n"
                        "    if ((COMP_CWORD == 1)); then\n"
                        "        COMPREPLY=($(compgen -W '");
    put_words(out, "(verbs)", ' ');
    hth_put_printf(out, "--help --version' -- \"$cur\"))\n"
                        "        return\n    fi\n"
                        "    case $verb:$prev in\n");
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        bash_values(out, v);
    hth_put_printf(out, "    esac\n    case $verb in\n");
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        bash_words(out, v);
    hth_put_printf(out, "    esac\n"
                        "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                        "}\n"
                        "complete -F _hearth hearth\n");
}

/* ---- zsh ----------------------------------------------------------------- */

/* Text inside '...[...]' of a zsh spec: brackets, colons and single quotes
 * mean something there. Descriptions of verbs need the quotes only. */
static void zsh_text(struct hth_buf *out, const char *text, const char *special)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            hth_put_printf(out, "'\\''");
        else if (strchr(special, *text) != NULL)
            hth_put_printf(out, "\\%c", *text);
        else
            hth_put_u8(out, (uint8_t)*text);
    }
}

static void zsh_action(struct hth_buf *out, const struct hth_opt *o)
{
    if (o->type == HTH_OPT_FLAG)
        return;
    hth_put_u8(out, ':');
    zsh_text(out, o->arg, "[]:\\");
    hth_put_u8(out, ':');
    if (o->choices != NULL) {
        hth_put_u8(out, '(');
        put_words(out, o->choices, ' ');
        hth_put_u8(out, ')');
    } else if (takes_path(o)) {
        hth_put_printf(out, o->type == HTH_OPT_DIR ? "_files -/" : "_files");
    } else {
        hth_put_u8(out, ' ');
    }
}

static void zsh_option(struct hth_buf *out, const struct hth_opt *o)
{
    const char *many = o->repeats ? "*" : "";
    bool flag = o->type == HTH_OPT_FLAG;

    hth_put_printf(out, "            '%s--%s%s[", many, o->name,
                   flag ? "" : "=");
    zsh_text(out, o->help, "[]:\\");
    hth_put_u8(out, ']');
    zsh_action(out, o);
    hth_put_printf(out, "' \\\n");
    if (o->letter == 0)
        return;
    hth_put_printf(out, "            '%s-%c%s[", many, o->letter,
                   flag ? "" : "+");
    zsh_text(out, o->help, "[]:\\");
    hth_put_u8(out, ']');
    zsh_action(out, o);
    hth_put_printf(out, "' \\\n");
}

static void zsh_verb(struct hth_buf *out, const struct hth_verb *v)
{
    hth_put_printf(out, "    %s)\n        _arguments \\\n", v->name);
    for (const struct hth_opt *o = v->opts; o->name != NULL; o++)
        zsh_option(out, o);
    hth_put_printf(out, "            '(- *)--help[This text.]'");
    if (v->operand_choices != NULL) {
        hth_put_printf(out, " \\\n            '1:word:(");
        put_words(out, v->operand_choices, ' ');
        hth_put_printf(out, ")'");
    } else if (operand_is_file(v)) {
        hth_put_printf(out, " \\\n            '1:file:_files'");
    }
    hth_put_printf(out, "\n        ;;\n");
}

static void put_zsh(struct hth_buf *out)
{
    hth_put_printf(out, "#compdef hearth\n"
                        "# zsh completion for hearth\n"
                        "_hearth() {\n"
                        "    local -a verbs=(\n");
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++) {
        hth_put_printf(out, "        '%s:", v->name);
        zsh_text(out, v->summary, "");
        hth_put_printf(out, "'\n");
    }
    hth_put_printf(out, "    )\n"
                        "    if ((CURRENT == 2)); then\n"
                        "        _describe verb verbs\n"
                        "        return\n"
                        "    fi\n"
                        "    shift words\n"
                        "    ((CURRENT--))\n"
                        "    case $words[1] in\n");
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        zsh_verb(out, v);
    hth_put_printf(out, "    esac\n}\n"
                        "if [[ $funcstack[1] == _hearth ]]; then\n"
                        "    _hearth \"$@\"\n"
                        "else\n"
                        "    compdef _hearth hearth\n"
                        "fi\n");
}

/* ---- fish ---------------------------------------------------------------- */

/* Inside single quotes fish knows two escapes only. */
static void fish_text(struct hth_buf *out, const char *text)
{
    hth_put_u8(out, '\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\')
            hth_put_u8(out, '\\');
        hth_put_u8(out, (uint8_t)*text);
    }
    hth_put_u8(out, '\'');
}

static void fish_option(struct hth_buf *out, const struct hth_verb *v,
                        const struct hth_opt *o)
{
    hth_put_printf(out,
                   "complete -c hearth -n '__fish_seen_subcommand_from %s' "
                   "-l %s",
                   v->name, o->name);
    if (o->letter != 0)
        hth_put_printf(out, " -s %c", o->letter);
    if (o->choices != NULL) {
        hth_put_printf(out, " -x -a '");
        put_words(out, o->choices, ' ');
        hth_put_u8(out, '\'');
    } else if (takes_path(o)) {
        hth_put_printf(out, " -r -F");
    } else if (o->type != HTH_OPT_FLAG) {
        hth_put_printf(out, " -x");
    }
    hth_put_printf(out, " -d ");
    fish_text(out, o->help);
    hth_put_u8(out, '\n');
}

static void fish_verb(struct hth_buf *out, const struct hth_verb *v)
{
    hth_put_printf(out,
                   "complete -c hearth -n __fish_use_subcommand -a %s "
                   "-d ",
                   v->name);
    fish_text(out, v->summary);
    hth_put_u8(out, '\n');
    for (const struct hth_opt *o = v->opts; o->name != NULL; o++)
        fish_option(out, v, o);
    if (v->operand_choices != NULL) {
        hth_put_printf(out,
                       "complete -c hearth -n '__fish_seen_subcommand_from "
                       "%s' -a '",
                       v->name);
        put_words(out, v->operand_choices, ' ');
        hth_put_printf(out, "'\n");
    } else if (operand_is_file(v)) {
        hth_put_printf(out,
                       "complete -c hearth -n '__fish_seen_subcommand_from "
                       "%s' -F\n",
                       v->name);
    }
}

static void put_fish(struct hth_buf *out)
{
    hth_put_printf(out, "# fish completion for hearth\n"
                        "complete -c hearth -f\n"
                        "complete -c hearth -l help -s h -d 'Help.'\n");
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        fish_verb(out, v);
}

void hth_help_completion(struct hth_buf *out, const char *shell)
{
    if (strcmp(shell, "bash") == 0) {
        put_bash(out);
    } else if (strcmp(shell, "zsh") == 0) {
        put_zsh(out);
    } else {
        HTH_ASSERT(strcmp(shell, "fish") == 0);
        put_fish(out);
    }
}
