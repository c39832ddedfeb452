//! What the prompts draw from.

/// Fields with their subjects.
pub(super) const DOMAINS: [(&str, [&str; 6]); 16] = [
    (
        "public transport",
        ["a new tram line", "night buses", "a ticketing reform", "station repairs", "a ferry service", "staff rosters"],
    ),
    (
        "medicine",
        [
            "a drug trial",
            "hospital waiting times",
            "a vaccination drive",
            "physiotherapy",
            "a blood bank",
            "medical records",
        ],
    ),
    ("farming", ["an orchard", "dairy prices", "irrigation", "a seed bank", "pest control", "a farmers' market"]),
    ("energy", ["a wind farm", "grid outages", "heat pumps", "a hydroelectric dam", "battery storage", "fuel taxes"]),
    (
        "education",
        [
            "an exam reform",
            "a school merger",
            "adult classes",
            "a university library",
            "teacher training",
            "school meals",
        ],
    ),
    (
        "software",
        [
            "a data migration",
            "a security incident",
            "an app release",
            "open-source maintenance",
            "a payment system",
            "user research",
        ],
    ),
    (
        "law",
        [
            "a lease dispute",
            "a patent case",
            "a court backlog",
            "consumer rights",
            "an inheritance",
            "a labour contract",
        ],
    ),
    (
        "sports",
        ["a rowing club", "a transfer", "a marathon", "stadium renovation", "youth coaching", "a doping inquiry"],
    ),
    (
        "the arts",
        [
            "a museum loan",
            "a theatre season",
            "film restoration",
            "a sculpture prize",
            "an orchestra tour",
            "a public mural",
        ],
    ),
    (
        "shipping",
        ["a container port", "a delayed freighter", "customs checks", "a shipyard", "harbour dredging", "crew changes"],
    ),
    (
        "ecology",
        ["a wetland", "a bird census", "river pollution", "a reforestation project", "wolves", "coral bleaching"],
    ),
    (
        "retail",
        [
            "a store closure",
            "a loyalty scheme",
            "a product recall",
            "a supplier contract",
            "holiday sales",
            "a warehouse move",
        ],
    ),
    (
        "astronomy",
        ["a telescope", "a comet", "a satellite launch", "light pollution", "a planetarium", "a meteorite find"],
    ),
    (
        "housing",
        [
            "a rent survey",
            "a housing cooperative",
            "a fire inspection",
            "a zoning vote",
            "roof insulation",
            "a moving company",
        ],
    ),
    (
        "history",
        [
            "an excavation",
            "a village archive",
            "a royal visit",
            "a lost manuscript",
            "a bridge's construction",
            "a mining town",
        ],
    ),
    (
        "tourism",
        ["a mountain hut", "a cruise season", "a walking trail", "hotel taxes", "a film location", "a language school"],
    ),
];

/// Where a paragraph could stand.
pub(super) const FORMS: [&str; 10] = [
    "a news report",
    "an annual report",
    "an internal memo",
    "an encyclopedia entry",
    "the minutes of a council",
    "a letter to customers",
    "a magazine feature",
    "a grant application",
    "an inspector's report",
    "a blog post",
];

/// Who reads it.
pub(super) const READERS: [&str; 4] =
    ["pupils of about fourteen", "the general public", "people of the trade", "specialists"];

/// What a paragraph of a longer text can be about.
pub(super) const ANGLES: [&str; 24] = [
    "how it began",
    "what it costs and who pays",
    "the people in charge",
    "a setback and its cause",
    "the timetable of the next steps",
    "figures of the past year",
    "complaints and how they were answered",
    "the place where it happens",
    "a comparison with a neighbouring town or rival",
    "an accident or near miss",
    "the equipment that is used",
    "the rules that apply",
    "a partner or supplier",
    "plans that were given up",
    "what experts disagree about",
    "an anniversary or ceremony",
    "training and staff",
    "effects on the surroundings",
    "a survey and its result",
    "safety checks",
    "a prize or recognition",
    "seasonal changes",
    "a legal dispute",
    "what visitors or users say",
];

/// Occasions of conversations.
pub(super) const MEETINGS: [&str; 8] = [
    "a project meeting",
    "a hallway conversation",
    "a video call between two offices",
    "a group chat",
    "a committee session",
    "a phone conference with a client",
    "a shift handover",
    "a planning session over lunch",
];

/// First names; none is part of another.
pub(super) const NAMES: [&str; 40] = [
    "Amira", "Bruno", "Chiara", "Dmitri", "Esther", "Farid", "Greta", "Hiroshi", "Imani", "Joaquin", "Katya",
    "Lorenzo", "Mei", "Nikhil", "Olga", "Pascal", "Quentin", "Rosalind", "Samir", "Tabea", "Ulrich", "Violet",
    "Wanjiru", "Xavier", "Yusuf", "Zofia", "Anselm", "Beatriz", "Cormac", "Daphne", "Emeka", "Freya", "Gideon",
    "Hanneke", "Ilse", "Jovan", "Keiko", "Leopold", "Mathilde", "Noor",
];
