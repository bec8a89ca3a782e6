//! Who reviews the members, and who of the owner trust's administrators stays.

use super::*;

impl Scene {
    /// Ada changes the policy, and everybody follows.
    fn ada_commits(&mut self, policy: &Policy) {
        let commit = committed(&mut self.ada, policy).unwrap();
        self.hub.accept_commit(&commit, NOW).unwrap();
        self.ada.group().apply_pending_commit().unwrap();
        self.ben.receive(&commit).unwrap();
        self.cem.receive(&commit).unwrap();
    }

    /// The owner trust's node proposes to remove somebody, and the others hear of it.
    fn proposes_to_remove(&mut self, leaf: u32) -> Vec<u8> {
        let (chain, key) = (self.node_chain.clone(), self.node_key.clone());
        self.hub = self.reload(&chain, &key);
        let proposal = self.hub.propose_remove(leaf).unwrap();
        self.ada.receive(&proposal).unwrap();
        self.ben.receive(&proposal).unwrap();
        self.cem.receive(&proposal).unwrap();
        proposal
    }
}

/// What a member does at once whose own rules may not mind.
fn at_once<R: MlsRules + Clone>(
    member: &mut Member<R>,
    policy: Option<&Policy>,
    add: Option<MlsMessage>,
    remove: Option<u32>,
) -> Option<Vec<u8>> {
    let mut extensions = member.group().context().extensions.clone();
    let mut builder = member.group().commit_builder().commit_time(mls_time(NOW));
    if let Some(policy) = policy {
        extensions.set(policy.to_extension());
        builder = builder.set_group_context_ext(extensions).unwrap();
    }
    if let Some(package) = add {
        builder = builder.add_member(package).unwrap();
    }
    if let Some(leaf) = remove {
        builder = builder.remove_member(leaf).unwrap();
    }
    Some(builder.build().ok()?.commit_message().to_bytes().unwrap())
}

/// Commits a policy, and leaves it pending: what the member's own rules say first.
fn committed<R: MlsRules + Clone>(member: &mut Member<R>, policy: &Policy) -> Option<Vec<u8>> {
    let mut extensions = member.group().context().extensions.clone();
    extensions.set(policy.to_extension());
    let builder = member.group().commit_builder().commit_time(mls_time(NOW));
    let built = builder.set_group_context_ext(extensions).unwrap().build();
    Some(built.ok()?.commit_message().to_bytes().unwrap())
}

#[test]
fn the_owner_trusts_administrators_alone_review_in_their_own_name_and_forwards() {
    let mut s = Scene::new();
    let (ada, ben, cem) = (s.ada.device.person, s.ben.device.person, s.cem.device.person);
    let plain = Policy::new(Class::Clinical, [ada, ben, cem]).unwrap();
    s.ada_commits(&plain);
    let reviewed = |by, at| plain.clone().with_review(Review::new(at, by, ReviewTerms::default()).unwrap());
    s.ada_commits(&reviewed(ada, NOW));
    assert_eq!(s.hub.policy().review().unwrap().by(), &ada);

    let later = NOW.plus_secs(60);
    // In Ada's name or in their own; and what Ada has recorded is not taken back.
    for wrong in [reviewed(ada, later), reviewed(ben, later), reviewed(cem, later), plain.clone()] {
        assert!(committed(&mut s.ben, &wrong).is_none(), "his own client does not make it");
        let commit = committed(&mut s.cem, &wrong).unwrap();
        s.cem.group().clear_pending_commit();
        assert!(s.hub.accept_commit(&commit, NOW).is_err());
        assert!(s.ada.receive(&commit).is_err() && s.ben.receive(&commit).is_err());
    }
    for wrong in [reviewed(ben, later), reviewed(ada, NOW.minus_secs(1)), plain.clone()] {
        assert!(committed(&mut s.ada, &wrong).is_none());
    }
    // Others administer on without touching it, and Ada reviews again.
    let fewer = Policy::new(Class::Clinical, [ada, ben]).unwrap();
    let fewer = fewer.with_review(*reviewed(ada, NOW).review().unwrap());
    let commit = committed(&mut s.ben, &fewer).unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ada.receive(&commit).unwrap();
    let again = fewer.with_review(Review::new(later, ada, ReviewTerms::default()).unwrap());
    let commit = committed(&mut s.ada, &again).unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    assert_eq!(s.hub.policy().review().unwrap().at(), later);
}

#[test]
fn where_no_administrator_of_the_owner_trust_is_left_a_member_of_it_becomes_one() {
    let mut s = Scene::new();
    let (ada, ben) = (s.ada.device.person, s.ben.device.person);
    let rules = || Rules::new(s.chains.clone());
    let mut dora = Member::new(&s.chains, "RYJ", "Dora", rules());
    let both = Policy::new(Class::Clinical, [ada, ben]).unwrap();
    let commit = committed(&mut s.ada, &both).unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ada.group().apply_pending_commit().unwrap();
    s.ben.receive(&commit).unwrap();
    let (commit, welcome) = s.ada.commit(&[dora.key_package()], &[]);
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ada.group().apply_pending_commit().unwrap();
    s.ben.receive(&commit).unwrap();
    dora.join(&welcome.unwrap());
    let takes_over = Policy::new(Class::Clinical, [ben, dora.device.person]).unwrap();
    let beside_her = Policy::new(Class::Clinical, [ada, ben, dora.device.person]).unwrap();
    for policy in [&takes_over, &beside_her] {
        assert!(committed(&mut dora, policy).is_none(), "Ada is there");
    }

    // Ada's trust has her removed; Ben, who administers for another trust, carries it out.
    let (chain, key) = (s.node_chain.clone(), s.node_key.clone());
    let mut hub = s.reload(&chain, &key);
    let proposal = hub.propose_remove(0).unwrap();
    s.hub = hub;
    s.ben.receive(&proposal).unwrap();
    dora.receive(&proposal).unwrap();
    let (commit, _) = s.ben.commit(&[], &[]);
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ben.group().apply_pending_commit().unwrap();
    dora.receive(&commit).unwrap();

    // Nothing else goes with it, and nobody else does it.
    let more = takes_over.clone().with_retention(60).unwrap();
    let alone = Policy::new(Class::Clinical, [dora.device.person]).unwrap();
    for wrong in [more, alone, beside_her] {
        assert!(committed(&mut dora, &wrong).is_none());
    }
    let builder = dora.group().commit_builder();
    let without_nodes =
        builder.set_group_context_ext(vec![takes_over.to_extension()].into()).unwrap().build();
    assert!(without_nodes.is_err());
    let commit = committed(&mut dora, &takes_over).unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ben.receive(&commit).unwrap();
    assert!(s.hub.policy().is_admin(&dora.device.person));
}

#[test]
fn with_a_trusts_removal_nobody_takes_out_the_owner_trusts_administrators() {
    let mut s = Scene::new();
    let (ada, ben, cem) = (s.ada.device.person, s.ben.device.person, s.cem.device.person);
    s.ada_commits(&Policy::new(Class::Clinical, [ada, ben, cem]).unwrap());
    // Ben is to leave, which anybody carries out; Cem, who administers for another trust, adds to it what he may not do.
    s.proposes_to_remove(1);
    let without_her = Policy::new(Class::Clinical, [ben, cem]).unwrap();
    for (policy, remove) in [(None, Some(0)), (Some(&without_her), None), (Some(&without_her), Some(0))] {
        let commit = at_once(&mut s.cem, policy, None, remove).unwrap();
        s.cem.group().clear_pending_commit();
        assert!(s.hub.accept_commit(&commit, NOW).is_err());
        assert!(s.ada.receive(&commit).is_err());
    }
    let (commit, _) = s.cem.commit(&[], &[]);
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.cem.group().apply_pending_commit().unwrap();
    s.ada.receive(&commit).unwrap();
    assert_eq!(s.hub.members().unwrap().len(), 2);

    // Also if it is her whom the trust removes: nothing is taken from her on the way out.
    let (chain, key) = (s.node_chain.clone(), s.node_key.clone());
    s.hub = s.reload(&chain, &key);
    let proposal = s.hub.propose_remove(0).unwrap();
    s.cem.receive(&proposal).unwrap();
    let alone = Policy::new(Class::Clinical, [cem]).unwrap();
    let commit = at_once(&mut s.cem, Some(&alone), None, None).unwrap();
    s.cem.group().clear_pending_commit();
    assert!(s.hub.accept_commit(&commit, NOW).is_err());
    let (commit, _) = s.cem.commit(&[], &[]);
    s.hub.accept_commit(&commit, NOW).unwrap();
}

#[test]
fn a_full_list_of_administrators_keeps_nobody_from_taking_over() {
    let mut s = Scene::new();
    let ada = s.ada.device.person;
    let mut dora = Member::new(&s.chains, "RYJ", "Dora", Rules::new(s.chains.clone()));
    let gone = |n: usize| PersonKey::of(&"RJ1".parse().unwrap(), Some(&format!("GMC {n}")), &[0; 32]);
    s.ada_commits(&Policy::new(Class::Clinical, (1..policy::ADMINS_MAX).map(gone).chain([ada])).unwrap());
    let (commit, welcome) = s.ada.commit(&[dora.key_package()], &[]);
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ada.group().apply_pending_commit().unwrap();
    dora.join(&welcome.unwrap());
    s.ben.receive(&commit).unwrap();
    s.cem.receive(&commit).unwrap();
    let proposal = s.proposes_to_remove(0);
    dora.receive(&proposal).unwrap();
    let (commit, _) = s.ben.commit(&[], &[]);
    s.hub.accept_commit(&commit, NOW).unwrap();
    dora.receive(&commit).unwrap();
    assert_eq!(s.hub.policy().admins().len(), policy::ADMINS_MAX);

    let takes_over = Policy::new(Class::Clinical, [dora.device.person]).unwrap();
    let commit = committed(&mut dora, &takes_over).unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    assert_eq!(s.hub.policy().admins(), [dora.device.person]);
}

#[test]
fn with_a_review_only_removals_go() {
    let mut s = Scene::new();
    let (ada, cem) = (s.ada.device.person, s.cem.device.person);
    let dora = Member::new(&s.chains, "RAL", "Dora", Rules::new(s.chains.clone()));
    let review = Review::new(NOW, ada, ReviewTerms::default()).unwrap();
    let plain = Policy::new(Class::Clinical, [ada]).unwrap();
    let reviewed = plain.clone().with_review(review);
    let timed = reviewed.clone().with_retention(60).unwrap();
    let promoted = reviewed.clone().with_admins([ada, cem]).unwrap();
    for (policy, add) in [(&timed, None), (&promoted, None), (&reviewed, Some(dora.key_package()))] {
        assert!(at_once(&mut s.ada, Some(policy), add, None).is_none());
    }
    // Nor are the nodes that may propose taken out beside it.
    let builder = s.ada.group().commit_builder().set_group_context_ext(vec![reviewed.to_extension()].into());
    assert!(builder.unwrap().build().is_err());
    let commit = at_once(&mut s.ada, Some(&reviewed), None, Some(2)).unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ben.receive(&commit).unwrap();
    assert_eq!((s.hub.policy(), s.hub.members().unwrap().len()), (&reviewed, 2));
}

#[test]
fn a_conversation_is_founded_in_the_founders_name() {
    let s = Scene::new();
    let id = s.conversation.to_bytes();
    for (by, is_taken) in [(s.ada.device.person, true), (s.ben.device.person, false)] {
        let review = Review::new(NOW, by, ReviewTerms::default()).unwrap();
        let policy = Policy::new(Class::Clinical, [s.ada.device.person]).unwrap().with_review(review);
        let (extensions, at) = (vec![policy.to_extension()].into(), Some(mls_time(NOW)));
        let group =
            s.ada.client.create_group_with_id(id.clone(), extensions, ExtensionList::new(), at).unwrap();
        let info = group.group_info_message(true).unwrap().to_bytes().unwrap();
        let observed = PublicGroup::observe(s.chains.clone(), &s.conversation, &info, NOW);
        assert_eq!(observed.is_ok(), is_taken);
    }
}
