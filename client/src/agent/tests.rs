use std::sync::mpsc;

use super::*;

fn now(profile: &Profile) -> Mark {
    Mark::now(profile).unwrap()
}

fn sample() -> Opened {
    Opened {
        key: Box::new(Zeroizing::new([7; 32])),
        token: SessionToken::from_bytes(&[8; 32]),
        idle_secs: 600,
        offline: None,
    }
}

/// A profile in a directory whose path is as long as asked for.
fn profile(dir: &tempfile::TempDir, len_min: usize) -> Profile {
    let mut path = dir.path().join("p");
    while path.as_os_str().len() < len_min {
        path = path.join("a-part-of-a-long-path");
    }
    let profile = Profile::at(path);
    profile.make().unwrap();
    profile
}

#[test]
fn processes_find_what_an_agent_keeps_whatever_the_profiles_path() {
    for len_min in [0, 150] {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(&dir, len_min);
        assert!(!runs(&profile) && opened(&profile, true).unwrap().is_none());
        assert!(!lock(&profile).unwrap());
        assert!(unlock(&profile, &sample(), now(&profile)).unwrap() == HandedOver::Nobody);
        // What an agent that was killed leaves.
        drop(
            at_socket(&profile.agent_socket(), |path| std::os::unix::net::UnixListener::bind(path)).unwrap(),
        );
        assert!(!runs(&profile));

        let serving = profile.clone();
        std::thread::spawn(move || serve(&serving, None, drop));
        while !runs(&profile) {
            std::thread::yield_now();
        }
        assert!(opened(&profile, true).unwrap().is_none());
        assert_eq!(unlock(&profile, &sample(), now(&profile)).unwrap(), HandedOver::Kept);
        let found = opened(&profile, false).unwrap().unwrap();
        assert_eq!((&found.key[..], found.idle_secs), (&[7; 32][..], 600));
        assert!(found.token.proof().is_of(&sample().token));
        assert!(matches!(serve(&profile, None, drop), Err(AgentError::Runs)));
        // Who says nothing, or nonsense, keeps nobody out.
        let mut rude = at_socket(&profile.agent_socket(), |path| UnixStream::connect(path)).unwrap();
        rude.write_all(&[99; wire::BYTES]).unwrap();
        assert_eq!(rude.read(&mut [0; 8]).unwrap(), 0);
        assert!(lock(&profile).unwrap());
        assert!(opened(&profile, true).unwrap().is_none());
    }
}

#[test]
fn a_lock_during_an_unlocking_is_not_undone() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(&dir, 0);
    let begun = now(&profile);
    // No agent ran when it was locked.
    assert!(!lock(&profile).unwrap());
    let (told, heard) = mpsc::channel();
    let serving = profile.clone();
    let begin = (sample(), begun);
    std::thread::spawn(move || serve(&serving, Some(begin), move |token| told.send(token).unwrap()));
    assert!(heard.recv_timeout(ANSWER_TIME_MAX).unwrap().proof().is_of(&sample().token));
    assert_eq!(unlock(&profile, &sample(), begun).unwrap(), HandedOver::LockedSince);
    assert!(opened(&profile, true).unwrap().is_none());
    let begun = now(&profile);
    assert_eq!(unlock(&profile, &sample(), begun).unwrap(), HandedOver::Kept);
    assert!(lock(&profile).unwrap() && now(&profile) != begun);
    assert!(opened(&profile, true).unwrap().is_none());
}

#[test]
fn an_agent_ends_with_its_profile() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(&dir, 0);
    let serving = profile.clone();
    let served = std::thread::spawn(move || serve(&serving, Some((sample(), Mark::default())), drop));
    while !runs(&profile) {
        std::thread::yield_now();
    }
    drop(dir);
    assert!(served.join().unwrap().is_ok());
}

#[test]
fn what_is_forgotten_by_time_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(&dir, 0);
    let (told, heard) = mpsc::channel();
    let serving = profile.clone();
    let begin = Opened { idle_secs: 0, ..sample() };
    std::thread::spawn(move || {
        serve(&serving, Some((begin, Mark::default())), move |token| told.send(token).unwrap())
    });
    assert!(heard.recv_timeout(ANSWER_TIME_MAX).unwrap().proof().is_of(&sample().token));
    assert!(opened(&profile, true).unwrap().is_none());
}

#[test]
fn what_an_agent_begins_with_is_read_as_it_was_written() {
    let mut pipe = Vec::new();
    let mark = Mark([5; MARK_BYTES]);
    write_opened(&mut pipe, &sample(), mark).unwrap();
    let (opened, begun) = read_opened(&mut pipe.as_slice()).unwrap().unwrap();
    assert!(opened.key[..] == [7; 32] && begun == mark);
    assert!(read_opened(&mut &[][..]).unwrap().is_none());
    pipe[MARK_BYTES] = 77;
    assert!(read_opened(&mut pipe.as_slice()).is_err());
}
