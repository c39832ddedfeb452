//! What can be imported in the validator's container.

/// Top-level modules of Python 3.11's standard library on Linux (`sys.stdlib_module_names`, without those of Windows alone).
const STANDARD: &str = "\
    __future__ _thread abc aifc antigravity argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb \
    binascii bisect builtins bz2 cProfile calendar cgi cgitb chunk cmath cmd code codecs codeop collections \
    colorsys compileall concurrent configparser contextlib contextvars copy copyreg crypt csv ctypes curses \
    dataclasses datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum errno \
    faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt getpass gettext \
    glob graphlib grp gzip hashlib heapq hmac html http idlelib imaplib imghdr imp importlib inspect io ipaddress \
    itertools json keyword lib2to3 linecache locale logging lzma mailbox mailcap marshal math mimetypes mmap \
    modulefinder multiprocessing netrc nis nntplib ntpath nturl2path numbers opcode operator \
    optparse os ossaudiodev pathlib pdb pickle pickletools pipes pkgutil platform plistlib poplib posix posixpath \
    pprint profile pstats pty pwd py_compile pyclbr pydoc pydoc_data pyexpat queue quopri random re readline \
    reprlib resource rlcompleter runpy sched secrets select selectors shelve shlex shutil signal site smtpd \
    smtplib sndhdr socket socketserver spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string \
    stringprep struct subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios \
    textwrap this threading time timeit tkinter token tokenize tomllib trace traceback tracemalloc tty turtle \
    turtledemo types typing unicodedata unittest urllib uu uuid venv warnings wave weakref webbrowser \
    wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zlib zoneinfo";

/// Top-level modules of the packages that the container's lock file brings (upstream `deval/api/poetry.lock`: transformers 4.47.1,
/// torch 2.4.1, accelerate 1.2.1, peft 0.14, bitsandbytes 0.42.0, fastapi 0.115, pyarmor 8.5.11, python-dotenv 1.0.1, and what
/// these depend on).
const INSTALLED: &str = "\
    _yaml accelerate annotated_types anyio bitsandbytes certifi charset_normalizer click dotenv fastapi filelock fsspec \
    functorch h11 huggingface_hub idna isympy jinja2 markupsafe mpmath networkx numpy nvidia packaging peft psutil pyarmor \
    pydantic pydantic_core regex requests safetensors scipy sniffio starlette sympy tokenizers torch torchgen tqdm \
    transformers triton typing_extensions urllib3 uvicorn yaml";

/// Whether `import top` works there.
pub(super) fn known(top: &str) -> bool {
    STANDARD.split_whitespace().chain(INSTALLED.split_whitespace()).any(|name| name == top)
}
